//! What tests share: needs, temporary roots, fakes
