//! Simulated worlds under many seeds: which faults happen, how a failure is shrunk, and how it is
//! replayed.
