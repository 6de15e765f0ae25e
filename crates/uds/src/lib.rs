//! Unix sockets: safe bind, peers, pinned processes, any :authority.
