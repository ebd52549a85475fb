//! End-to-end tests of seacow
