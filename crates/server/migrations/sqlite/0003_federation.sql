-- Where the bundles of other trust domains are fetched. With `endpoint_id` the endpoint is verified by SPIFFE ID, without by Web PKI.
CREATE TABLE federation_relationships (
    trust_domain TEXT    PRIMARY KEY,
    url          TEXT    NOT NULL,
    endpoint_id  TEXT,
    revision     INTEGER NOT NULL
) STRICT;
