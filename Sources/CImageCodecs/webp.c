#include "image_codecs.h"

#include <stdio.h>
#include <webp/decode.h>

/// Writes the message of an error status; returns false.
static bool fail(char *message, size_t message_size, VP8StatusCode status) {
  const char *text = "damaged data";
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY: text = "out of memory"; break;
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED: text = "the file ends before the image does"; break;
    case VP8_STATUS_UNSUPPORTED_FEATURE: text = "a feature that libwebp does not support"; break;
    default: break;
  }
  snprintf(message, message_size, "%s", text);
  return false;
}

bool pdrop_webp_read_header(const unsigned char *bytes, size_t count, int *width, int *height, bool *is_animated,
                            char *message, size_t message_size) {
  WebPBitstreamFeatures features;
  VP8StatusCode status = WebPGetFeatures(bytes, count, &features);
  if (status != VP8_STATUS_OK) return fail(message, message_size, status);
  *width = features.width;
  *height = features.height;
  *is_animated = features.has_animation;
  return true;
}

bool pdrop_webp_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                       char *message, size_t message_size) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) {
    snprintf(message, message_size, "libwebp differs from its headers");
    return false;
  }
  VP8StatusCode status = WebPGetFeatures(bytes, count, &config.input);
  if (status != VP8_STATUS_OK) return fail(message, message_size, status);
  if (config.input.width != width || config.input.height != height) {
    snprintf(message, message_size, "the size differs from the header");
    return false;
  }
  if ((long long)width * 3 > 0x7FFFFFFF) return fail(message, message_size, VP8_STATUS_UNSUPPORTED_FEATURE);
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = rgb;
  config.output.u.RGBA.stride = width * 3;
  config.output.u.RGBA.size = (size_t)width * (size_t)height * 3;
  status = WebPDecode(bytes, count, &config);
  WebPFreeDecBuffer(&config.output);
  if (status != VP8_STATUS_OK) return fail(message, message_size, status);
  return true;
}
