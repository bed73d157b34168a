//! Every decoder that meets bytes from outside, under holdfast_tests::fuzz; one file a decoder, or a family of them. Inputs that once
//! failed are in corpus/.

mod client;
mod config;
mod files;
mod frames;
mod hostile;
mod raft;
mod records;
mod state;

#[global_allocator]
static ALLOCATOR: holdfast_tests::fuzz::Watching = holdfast_tests::fuzz::Watching;
