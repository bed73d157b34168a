//! Models: what the filesystem would do, were it one process that does one thing at a time. Pure. Called by checkers.
