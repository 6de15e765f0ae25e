-- Authorities of our trust domain that sign elsewhere: what servers below this one publish, and what operators append. `body` is the
-- certificate of an X.509 one, the public key of a JWT one; `id` the SHA-256 of the certificate, or the key ID. One that was revoked is in no
-- bundle; its row keeps it out.
CREATE TABLE appended_authorities (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    body       BLOB    NOT NULL,
    expires_at INTEGER,
    tainted    INTEGER NOT NULL,
    revoked    INTEGER NOT NULL,
    added_by   TEXT    NOT NULL,
    added_at   INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;
