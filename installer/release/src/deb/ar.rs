//! The outer ar archive of a .deb.
