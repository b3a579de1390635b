//! Secrets that cannot be guessed.

/// 256 bits of the system's generator, as 64 hexadecimal digits.
///
/// # Panics
///
/// Where the system has no generator: nothing that is given out there could be trusted.
pub(super) fn random_hex() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system generates random bytes");
    hex::encode(bytes)
}
