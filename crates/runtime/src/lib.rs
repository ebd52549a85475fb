//! OCI runtime: makes a process a container
