//! Generated gRPC code, checked in.
