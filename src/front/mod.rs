//! (front)
