-- WIT-SVIDs: tokens bound to a key. Of authorities and records of kind 'jwt', those of WIT-SVIDs have `wit`: a kind of their own would
-- need a copy of a table that has millions of rows.
ALTER TABLE authorities ADD COLUMN wit INTEGER NOT NULL DEFAULT 0 CHECK (wit IN (0, 1));
ALTER TABLE issued ADD COLUMN wit INTEGER NOT NULL DEFAULT 0 CHECK (wit IN (0, 1));
DROP INDEX authorities_one_a_slot;
CREATE UNIQUE INDEX authorities_one_a_slot ON authorities (kind, wit, slot) WHERE slot <> 'old';
