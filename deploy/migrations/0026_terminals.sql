-- Who has the terminal of a command: the session that opened it last. An earlier one ends when it sees another here.
ALTER TABLE commands ADD COLUMN terminal uuid;
