#include "CImageCodecs.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

static int fail(char *message, size_t message_size, const char *text) {
  snprintf(message, message_size, "%s", text);
  return -1;
}

// Reads the header; the colour space is one of TJCS_*.
static int read_header(tjhandle handle, const unsigned char *bytes, size_t count, int *width, int *height,
                       int *colorspace, char *message, size_t message_size) {
  int subsampling = -1;
  *width = 0;
  *height = 0;
  *colorspace = -1;
  if (count > ULONG_MAX) return fail(message, message_size, "file too large");
  if (tjDecompressHeader3(handle, bytes, (unsigned long)count, width, height, &subsampling, colorspace) != 0) {
    // Warnings, and sampling factors that TurboJPEG has no name for, also end here, but with the size filled in;
    // decoding to RGB needs no such name, and says itself when it cannot.
    if (*width <= 0 || *height <= 0) return fail(message, message_size, tjGetErrorStr2(handle));
  }
  if (*width <= 0 || *height <= 0) return fail(message, message_size, "no picture in the file");
  return 0;
}

// Whether an end-of-image marker follows the last start of a scan. Inside a scan 0xFF is always followed by 0 or by
// a restart marker, so the two bytes cannot be picture data.
static int has_end_of_image(const unsigned char *bytes, size_t count) {
  for (size_t i = count; i-- > 1;) {
    if (bytes[i - 1] != 0xFF) continue;
    if (bytes[i] == 0xD9) return 1;
    if (bytes[i] == 0xDA) return 0;
  }
  return 0;
}

// Whether a warning means that picture data is missing or wrong. Others, such as stray bytes between segments or an
// unknown JFIF revision, are common in good files.
static int is_damage(const char *warning) {
  static const char *const signs[] = {"remature end", "bad Huffman code", "bad arithmetic code", "instead of RST"};
  for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
    if (strstr(warning, signs[i])) return 1;
  }
  return 0;
}

static int decompress(tjhandle handle, const unsigned char *bytes, size_t count, int width, int height, int format,
                      unsigned char *pixels, char *message, size_t message_size) {
  int flags = TJFLAG_ACCURATEDCT;
#ifdef TJFLAG_LIMITSCANS
  flags |= TJFLAG_LIMITSCANS;  // a few kilobytes of empty progressive scans would otherwise decode for minutes
#endif
  if (tjDecompress2(handle, bytes, (unsigned long)count, pixels, width, 0, height, format, flags) == 0) return 0;
  const char *text = tjGetErrorStr2(handle);
  if (tjGetErrorCode(handle) != TJERR_WARNING || is_damage(text)) return fail(message, message_size, text);
  // Only the first warning has a text: a harmless one may hide that the data ended early.
  if (!has_end_of_image(bytes, count)) return fail(message, message_size, "the file ends before the picture does");
  return 0;
}

static unsigned char multiply(unsigned a, unsigned b) {
  unsigned product = a * b + 128;
  return (unsigned char)(((product >> 8) + product) >> 8);
}

// Ink to light. The four channels are stored inverted, as Adobe writes them, so each is already 255 - ink.
static void convert_inverted_cmyk(const unsigned char *cmyk, unsigned char *rgb, size_t pixels) {
  for (size_t i = 0; i < pixels; i++) {
    unsigned light = cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; c++) {
      rgb[3 * i + c] = (unsigned char)(light - multiply(255u - cmyk[4 * i + c], light));
    }
  }
}

static int decode_cmyk(tjhandle handle, const unsigned char *bytes, size_t count, int width, int height,
                       unsigned char *rgb, char *message, size_t message_size) {
  size_t pixels = (size_t)width * (size_t)height;
  unsigned char *cmyk = malloc(pixels * 4);
  if (!cmyk) return fail(message, message_size, "out of memory");
  int result = decompress(handle, bytes, count, width, height, TJPF_CMYK, cmyk, message, message_size);
  if (result == 0) convert_inverted_cmyk(cmyk, rgb, pixels);
  free(cmyk);
  return result;
}

int pdrop_jpeg_read_header(const unsigned char *bytes, size_t count, int *width, int *height, char *message,
                           size_t message_size) {
  tjhandle handle = tjInitDecompress();
  if (!handle) return fail(message, message_size, tjGetErrorStr2(NULL));
  int colorspace;
  int result = read_header(handle, bytes, count, width, height, &colorspace, message, message_size);
  tjDestroy(handle);
  return result;
}

int pdrop_jpeg_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                      char *message, size_t message_size) {
  tjhandle handle = tjInitDecompress();
  if (!handle) return fail(message, message_size, tjGetErrorStr2(NULL));
  int actual_width, actual_height, colorspace;
  int result = read_header(handle, bytes, count, &actual_width, &actual_height, &colorspace, message, message_size);
  if (result == 0 && (actual_width != width || actual_height != height)) {
    result = fail(message, message_size, "the size differs from the header's");
  }
  if (result == 0) {
    int four_inks = colorspace == TJCS_CMYK || colorspace == TJCS_YCCK;
    result = four_inks ? decode_cmyk(handle, bytes, count, width, height, rgb, message, message_size)
                       : decompress(handle, bytes, count, width, height, TJPF_RGB, rgb, message, message_size);
  }
  tjDestroy(handle);
  return result;
}
