-- What a tainted authority signed is to be replaced; it verifies until it is revoked.
ALTER TABLE authorities ADD COLUMN tainted INTEGER NOT NULL DEFAULT 0;
