//! rustls verifiers and resolvers by SPIFFE ID.
