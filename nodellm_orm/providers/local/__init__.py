"""The provider ``local``: a small model inside this process, without key and without network."""
