pub mod failure;
pub mod verify;
