//! Root filesystems, kernels and initramfs images for templates.
