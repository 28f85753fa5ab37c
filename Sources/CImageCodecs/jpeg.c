#include "image_codecs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

/// Writes an error message; returns false.
static bool fail(char *message, size_t message_size, const char *text) {
  snprintf(message, message_size, "%s", text);
  return false;
}

/// Reads the header; the color space is one of TJCS_*.
static bool read_header(tjhandle handle, const unsigned char *bytes, size_t count, int *width, int *height,
                        int *colorspace, char *message, size_t message_size) {
  int subsampling = -1;
  *width = 0;
  *height = 0;
  *colorspace = -1;
  if (count > ULONG_MAX) return fail(message, message_size, "file too large");
  if (tjDecompressHeader3(handle, bytes, (unsigned long)count, width, height, &subsampling, colorspace) != 0) {
    // Warnings, and sampling factors without a TurboJPEG name, also fail, but with the size set. Decoding to RGB
    // needs no such name and reports its own errors.
    if (*width <= 0 || *height <= 0) return fail(message, message_size, tjGetErrorStr2(handle));
  }
  if (*width <= 0 || *height <= 0) return fail(message, message_size, "no image in the file");
  return true;
}

/// Whether an end-of-image marker follows the last start of a scan.
///
/// Inside a scan 0xFF is always followed by 0 or a restart marker, so the two bytes cannot be image data.
static bool has_end_of_image(const unsigned char *bytes, size_t count) {
  for (size_t i = count; i-- > 1;) {
    if (bytes[i - 1] != 0xFF) continue;
    if (bytes[i] == 0xD9) return true;
    if (bytes[i] == 0xDA) return false;
  }
  return false;
}

/// Whether a warning means that image data is missing or wrong.
///
/// Other warnings, such as stray bytes between segments or an unknown JFIF revision, are common in good files.
static bool is_damage(const char *warning) {
  static const char *const signs[] = {"remature end", "bad Huffman code", "bad arithmetic code", "instead of RST"};
  for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
    if (strstr(warning, signs[i])) return true;
  }
  return false;
}

static bool decompress(tjhandle handle, const unsigned char *bytes, size_t count, int width, int height, int format,
                       unsigned char *pixels, char *message, size_t message_size) {
  int flags = TJFLAG_ACCURATEDCT;
#ifdef TJFLAG_LIMITSCANS
  flags |= TJFLAG_LIMITSCANS;  // without it, a few kilobytes of empty progressive scans take minutes to decode
#endif
  if (tjDecompress2(handle, bytes, (unsigned long)count, pixels, width, 0, height, format, flags) == 0) return true;
  const char *text = tjGetErrorStr2(handle);
  if (tjGetErrorCode(handle) != TJERR_WARNING || is_damage(text)) return fail(message, message_size, text);
  // Only the first warning has a text, and a harmless one may hide that the data ended early.
  if (!has_end_of_image(bytes, count)) return fail(message, message_size, "the file ends before the image does");
  return true;
}

/// a * b / 255, rounded.
static unsigned char multiply(unsigned a, unsigned b) {
  unsigned scaled = a * b + 128;
  return (unsigned char)(((scaled >> 8) + scaled) >> 8);
}

/// Converts CMYK to RGB. The four channels are stored inverted, as Adobe writes them: each is 255 - ink.
static void convert_inverted_cmyk(const unsigned char *cmyk, unsigned char *rgb, size_t pixels) {
  for (size_t i = 0; i < pixels; i++) {
    unsigned light = cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; c++) {
      rgb[3 * i + c] = (unsigned char)(light - multiply(255u - cmyk[4 * i + c], light));
    }
  }
}

static bool decode_cmyk(tjhandle handle, const unsigned char *bytes, size_t count, int width, int height,
                        unsigned char *rgb, char *message, size_t message_size) {
  size_t pixels = (size_t)width * (size_t)height;
  unsigned char *cmyk = malloc(pixels * 4);
  if (!cmyk) return fail(message, message_size, "out of memory");
  bool result = decompress(handle, bytes, count, width, height, TJPF_CMYK, cmyk, message, message_size);
  if (result) convert_inverted_cmyk(cmyk, rgb, pixels);
  free(cmyk);
  return result;
}

bool pdrop_jpeg_read_header(const unsigned char *bytes, size_t count, int *width, int *height, char *message,
                            size_t message_size) {
  tjhandle handle = tjInitDecompress();
  if (!handle) return fail(message, message_size, tjGetErrorStr2(NULL));
  int colorspace;
  bool result = read_header(handle, bytes, count, width, height, &colorspace, message, message_size);
  tjDestroy(handle);
  return result;
}

bool pdrop_jpeg_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                       char *message, size_t message_size) {
  tjhandle handle = tjInitDecompress();
  if (!handle) return fail(message, message_size, tjGetErrorStr2(NULL));
  int actual_width, actual_height, colorspace;
  bool result = read_header(handle, bytes, count, &actual_width, &actual_height, &colorspace, message, message_size);
  if (result && (actual_width != width || actual_height != height)) {
    result = fail(message, message_size, "the size differs from the header");
  }
  if (result) {
    bool is_cmyk = colorspace == TJCS_CMYK || colorspace == TJCS_YCCK;
    result = is_cmyk ? decode_cmyk(handle, bytes, count, width, height, rgb, message, message_size)
                     : decompress(handle, bytes, count, width, height, TJPF_RGB, rgb, message, message_size);
  }
  tjDestroy(handle);
  return result;
}
