//! Migrations from the request to the end, without a cluster: the world is a handful of values that steps change.

mod scenarios;
mod world;
