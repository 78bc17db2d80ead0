//! Docker's defaults as an OCI runtime spec: the 14 capabilities, namespaces, mounts, devices, masked and read-only paths.
