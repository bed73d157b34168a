//! A whole mount over a real S3 server.
