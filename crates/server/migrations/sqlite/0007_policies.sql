-- Revisions count within an epoch. 0: this registry has not begun yet; it does when it is first loaded.
ALTER TABLE state ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
-- What SPIRE's entry has no field for. An entry without a row has the defaults.
CREATE TABLE entry_policies (
    entry_id    TEXT    PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE,
    description TEXT    NOT NULL,
    revision    INTEGER NOT NULL
) STRICT;
