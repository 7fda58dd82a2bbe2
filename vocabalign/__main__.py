"""``python -m vocabalign``, ``torchrun -m vocabalign``, ``accelerate launch -m vocabalign``."""

from vocabalign.cli import main

if __name__ == "__main__":
    main()
