-- Who operates the trust domain (ADR 33). A row of `people` is a reference, with what it may do and who agreed to it; it is never removed. The name
-- stands apart, so that it can be erased. A login belongs to one person.
CREATE TABLE people (
    reference TEXT   PRIMARY KEY,
    body      TEXT   NOT NULL,
    revision  BIGINT NOT NULL
);
CREATE TABLE person_names (
    reference TEXT PRIMARY KEY REFERENCES people (reference),
    name      TEXT NOT NULL
);
CREATE TABLE person_logins (
    login     TEXT PRIMARY KEY,
    reference TEXT NOT NULL REFERENCES people (reference)
);
CREATE INDEX person_logins_by_person ON person_logins (reference);
-- What waits for a second person; gone when it was decided or is over.
CREATE TABLE person_proposals (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL
);
