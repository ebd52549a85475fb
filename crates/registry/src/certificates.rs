//! Certificates of single registries, as Docker keeps them: a directory per host with `*.crt` (whom to
//! trust), and pairs of `*.cert` and `*.key` (who we are).

use std::path::{Path, PathBuf};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::error::RegistryError;

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Whom to trust besides those that the host trusts.
pub(crate) fn trusted(dirs: &[PathBuf]) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let mut out = Vec::new();
    for file in files(dirs, "crt")? {
        out.extend(chain(&file)?);
    }
    Ok(out)
}

/// Who we are: the first pair.
pub(crate) fn identity(dirs: &[PathBuf]) -> Result<Option<Identity>, RegistryError> {
    let Some(file) = files(dirs, "cert")?.into_iter().next() else { return Ok(None) };
    let key = file.with_extension("key");
    if !key.is_file() {
        let reason = format!("missing key {} for client certificate", key.display());
        return Err(wrong(&file, reason));
    }
    let key_der = PrivateKeyDer::from_pem_file(&key).map_err(|error| wrong(&key, error))?;
    Ok(Some((chain(&file)?, key_der)))
}

fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let all = CertificateDer::pem_file_iter(file).map_err(|error| wrong(file, error))?;
    all.collect::<Result<_, _>>().map_err(|error| wrong(file, error))
}

fn files(dirs: &[PathBuf], extension: &str) -> Result<Vec<PathBuf>, RegistryError> {
    let mut out = Vec::new();
    for dir in dirs {
        for entry in std::fs::read_dir(dir).map_err(|error| wrong(dir, error))? {
            let path = entry.map_err(|error| wrong(dir, error))?.path();
            if path.extension().is_some_and(|found| found == extension) {
                out.push(path);
            }
        }
    }
    out.sort();
    Ok(out)
}

fn wrong(path: &Path, reason: impl std::fmt::Display) -> RegistryError {
    RegistryError::Certificates { path: path.display().to_string(), reason: reason.to_string() }
}

/// Takes any certificate: of registries that are said to be insecure.
#[derive(Debug)]
pub(crate) struct Any(WebPkiSupportedAlgorithms);

impl Any {
    pub(crate) fn of(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
