//! A server and its nodes in one process, under simulated time: months in seconds, and whatever can happen meanwhile in any order.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod disk;
mod island;
mod oracle;
mod weather;
mod world;
