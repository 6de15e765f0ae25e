//! SDS as an Envoy speaks it: names, forms, acknowledgements, refusals, removals, and who may ask.

mod client;
mod delta;
mod flood;
mod forms;
mod guarded;
mod handout;
mod whole;
