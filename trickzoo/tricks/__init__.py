"""The paper's training tricks: one file each, a pure function with its formula and source, and a card (`<trick>.md`) beside it."""
