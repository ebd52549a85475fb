//! Dockerfile: parse, plan, cache, steps
