//! Files that are open and have lost their last name, on two mounts, while leaders die and all nodes restart: they work to the last close,
//! and then nothing of them is left, neither objects nor keys of any kind.
