//! Key pairs of every kind, made for one test, and what is signed with them.

use super::forged::base64;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

/// Whoever has the private key.
pub(super) struct Signer {
    pub(super) algorithm: Algorithm,
    key: EncodingKey,
    /// The public key as PEM.
    pub(super) pem: String,
}

impl Signer {
    /// A new key for this algorithm.
    pub(super) fn new(algorithm: Algorithm) -> Signer {
        let (private, public) = match algorithm {
            Algorithm::ES256 => curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => edwards(),
            _ => rsa(),
        };
        let private = pem("PRIVATE KEY", &private);
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(private.as_bytes()),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(private.as_bytes()),
            _ => EncodingKey::from_rsa_pem(private.as_bytes()),
        };
        Signer { algorithm, key: key.unwrap(), pem: pem("PUBLIC KEY", &public) }
    }

    /// The public key for a key set, named.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(kid);
        jwk
    }

    /// What the header says of the algorithm.
    pub(super) fn alg(&self) -> String {
        serde_json::to_value(self.algorithm).unwrap().as_str().unwrap().to_owned()
    }

    /// A token with exactly these claims; the header says the algorithm, and `kid` where there is
    /// one.
    pub(super) fn token(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = json!({ "alg": self.alg() });
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        self.signed(&header.to_string(), &claims.to_string())
    }

    /// A token with exactly this header and these claims.
    pub(super) fn signed(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64(header.as_bytes()), base64(claims.as_bytes()));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A set of keys as an issuer publishes it.
pub(super) fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn rsa() -> (Vec<u8>, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec();
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    (private, public.as_ref().to_vec())
}

fn curve(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let private = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).unwrap();
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    (private.as_ref().to_vec(), public.as_ref().to_vec())
}

fn edwards() -> (Vec<u8>, Vec<u8>) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec();
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    (private, public.as_ref().to_vec())
}

/// PEM (RFC 7468) of DER.
fn pem(label: &str, der: &[u8]) -> String {
    let mut digits = base64(der).replace('-', "+").replace('_', "/");
    while !digits.len().is_multiple_of(4) {
        digits.push('=');
    }
    let lines: Vec<&str> =
        digits.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
