//! Each pass through text IR.
