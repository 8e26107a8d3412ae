#!/bin/sh
# Makes sure that Linux has a Vulkan loader and a driver; installs Mesa's software driver on Debian and Ubuntu.
# Metal and DX12 come with their systems.
set -eu
[ "$(uname -s)" = Linux ] || exit 0

has_loader() {
    ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || ls /usr/lib*/libvulkan.so.1 /usr/lib/*/libvulkan.so.1 2>/dev/null | grep -q .
}
has_driver() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] || ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json 2>/dev/null | grep -q .
}

if has_loader && has_driver; then exit 0; fi

if command -v apt-get >/dev/null; then
    echo "No Vulkan driver found: installing Mesa's software driver (mesa-vulkan-drivers, libvulkan1)."
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1 >/dev/null
    exit 0
fi
cat >&2 <<'MESSAGE'
No Vulkan driver found. Install the loader and your GPU's driver, or Mesa's software driver:
  Fedora        dnf install vulkan-loader mesa-vulkan-drivers
  Arch          pacman -S vulkan-icd-loader vulkan-swrast
  openSUSE      zypper install libvulkan1 libvulkan_lvp
  Alpine        apk add vulkan-loader mesa-vulkan-swrast
MESSAGE
exit 1
