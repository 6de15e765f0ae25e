-- The body of a policy may have `availability_first`: such an entry is issued also while the ledger cannot be written. The number keeps a server
-- that does not know it from writing policies without it.
COMMENT ON TABLE entry_policies IS 'since schema 7 with availability_first';
