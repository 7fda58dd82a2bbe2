"""Losses on hidden states and heads that never hold a tensor of positions times vocabulary.

The parts, from the bottom up:

* ``logits``: ``Head``, how hidden states become logits (bias, scale, soft cap, padded rows), and ``NEVER``, the logit
  of a masked row.
* ``streaming``: the loop. ``stream(row_loss, sides)`` is a weighted sum over rows whose gradient is made in the
  forward pass; ``stream_rows(row_loss, sides)`` gives every row's value, differentiable, for losses that are no sum
  over rows (it makes the logits again in the backward pass).
* ``pairs`` and ``divergences``: divergences between two distributions over any events, with closed gradients.
* ``positions``: labels, masks and weights of a batch brought to rows.
* ``fused``: ``fused_loss``, cross-entropy and mixtures of divergences for one shared vocabulary.
* ``sparse``, ``ranking``, ``decoupled``, ``consistency``, ``sinkhorn``: targets kept from a teacher (top-k with a tail,
  samples), list-wise and split losses, two passes of one model, optimal transport.

Across two tokenizers, on texts that ``aligned`` has lined up at their bytes:

* ``classes`` and ``events``: event-KL, a divergence over classes of tokens that both vocabularies can tell apart.
* ``likelihood`` and ``chunks``: approximate likelihood matching of the stretches between common ends;
  ``chunk_mixture``: with the cross-entropy, from one set of logits.
* ``prefixes``, ``marginal`` and ``prefix_targets``: the teacher's distribution as one over the student's next token.
* ``completed_events`` and ``prefix_mixture``: either with the cross-entropy, every label counting once.
  ``event_mixture``: event-KL, what follows inside tokens (``continuations``) and the cross-entropy, from one set of
  logits. ``class_sums`` and ``other_labels`` are what these share.
* ``projection``: a divergence through a lexicon. ``hidden``: hidden states at common ends.
* ``uld`` and ``gold``: sorted probabilities and their mixture with shared tokens, for comparison.

A new streamed loss is a row loss, a callable ``(logits, rows, gradient) -> values``:

* ``logits`` is a sequence with one (C, V_k) tensor for each ``Side``, float32 or float64, already scaled, capped and
  masked. The sides are the student's and, usually, the teacher's with ``trained=False``; they may have different
  vocabularies and any positions, gathered beforehand, but all have the same number N of rows;
* ``rows`` says which of the N rows these are, to look up labels or targets;
* with ``gradient`` it overwrites the logits of each trained side with the gradient of its value;
* ``values`` is (P, C): first the loss of each row, then whatever else is wanted in the log.

Weights of rows, ``num_items``, frozen heads, shared heads, dtypes and blocks are the loop's affair. For example::

    class Entropy:  # the student's entropy, to be minimised
        def __call__(self, logits, rows, gradient):
            z = logits[0]
            log_q = torch.log_softmax(z, -1)
            values = -(log_q.exp() * log_q).sum(-1)
            if gradient:
                z.copy_(log_q.exp() * (-log_q - values[:, None]))
            return values[None]

    loss, parts = stream(Entropy(), [Side(hidden, head)], num_items=100)

A divergence over classes of tokens: sum the probabilities of each class on both sides, call
``divergence(Pair(log_student, log_teacher))`` for values and the gradient G with respect to the logarithms of the
classes, and give token s of class c the gradient ``exp(log q_s - log Q_c) G_c``. Where every class is one token the
factor is exactly 1 and the loss that of ``fused_loss``, bit for bit.
"""
