pub mod failure;
pub mod keygen;
pub mod open;
pub mod output;
pub mod seal;
