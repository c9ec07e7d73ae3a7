"""python -m training.synthesis: write a data set of synthesised sounds."""

from training.synthesis.bank import main

if __name__ == "__main__":
    raise SystemExit(main())
