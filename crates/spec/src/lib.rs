//! Nouns shared by every process of seacow: OCI and Docker wire types, shim protocol, ids, lifecycle, error classes
