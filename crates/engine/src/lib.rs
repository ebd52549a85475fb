//! Containers, images, networks, volumes, exec, events
