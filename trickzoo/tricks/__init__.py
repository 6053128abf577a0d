"""The paper's training tricks. Each has a file with a pure function, its formula and its source, and a card (`<trick>.md`)."""
