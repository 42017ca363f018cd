//! xlac
