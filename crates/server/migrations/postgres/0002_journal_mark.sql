-- Changes of the authorities have no revision, only the version of their journal. Like a revision each has a mark, which names its commit: a database
-- that has lost some, and was then given as many others, shows another one.
ALTER TABLE state ADD COLUMN journal_mark TEXT NOT NULL DEFAULT '';

-- The last of them. Versions that never were the last of a commit have no row: nobody has seen them.
CREATE TABLE journal_changes (
    version BIGINT PRIMARY KEY,
    mark    TEXT   NOT NULL
);
