-- For an authority that another signed: the certificates between it and the root, DER one behind the other, and the root's key identifier in hex.
ALTER TABLE authorities ADD COLUMN chain BLOB;
ALTER TABLE authorities ADD COLUMN root TEXT;
-- What the upstream authority has in its bundle. `body` is the certificate of an X.509 one, the public key of a JWT one; `id` the SHA-256 of the
-- certificate, or the key ID. What was revoked here stays here while the upstream authority names it, so that it does not come back.
CREATE TABLE upstream_authorities (
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    place      INTEGER NOT NULL,
    body       BLOB    NOT NULL,
    expires_at INTEGER,
    trust      TEXT    NOT NULL CHECK (trust IN ('trusted', 'tainted', 'revoked')),
    PRIMARY KEY (kind, id)
) STRICT;
