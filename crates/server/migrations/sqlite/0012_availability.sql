-- Such an entry is issued also while the ledger cannot be written.
ALTER TABLE entry_policies ADD COLUMN availability_first INTEGER NOT NULL DEFAULT 0 CHECK (availability_first IN (0, 1));
