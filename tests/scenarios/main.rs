//! System scenarios: a real server and real agents, one file a scenario.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod authorities;
mod backup;
mod bad_input;
mod chain;
mod compat;
mod island;
mod journal;
mod main_job;
mod nested;
mod outages;
mod push;
mod quarantine;
mod recovery;
mod reserve;
mod wit;
