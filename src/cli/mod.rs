pub mod failure;
pub mod probe;
