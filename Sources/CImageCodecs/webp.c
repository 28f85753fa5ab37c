#include <stdio.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>

#include "image_codecs.h"

/// Writes an error message; returns false.
static bool fail(char *message, size_t message_size, const char *text) {
  snprintf(message, message_size, "%s", text);
  return false;
}

static const char *text_of(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY: return "out of memory";
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED: return "the file ends before the image does";
    case VP8_STATUS_UNSUPPORTED_FEATURE: return "a feature that libwebp does not support";
    default: return "damaged data";
  }
}

/// The container and its first frame; `demuxer` must be deleted also after a failure.
typedef struct {
  WebPDemuxer *demuxer;
  WebPIterator frame;
  int width;
  int height;
} webp_file;

static bool open_file(const unsigned char *bytes, size_t count, webp_file *file, char *message, size_t message_size) {
  memset(file, 0, sizeof *file);
  WebPData data = {.bytes = bytes, .size = count};
  file->demuxer = WebPDemux(&data);
  if (!file->demuxer) {
    WebPBitstreamFeatures features;
    VP8StatusCode status = WebPGetFeatures(bytes, count, &features);
    return fail(message, message_size, text_of(status == VP8_STATUS_OK ? VP8_STATUS_NOT_ENOUGH_DATA : status));
  }
  uint32_t width = WebPDemuxGetI(file->demuxer, WEBP_FF_CANVAS_WIDTH);
  uint32_t height = WebPDemuxGetI(file->demuxer, WEBP_FF_CANVAS_HEIGHT);
  if (width == 0 || height == 0 || width > 1 << 24 || height > 1 << 24) {
    return fail(message, message_size, "no canvas");
  }
  file->width = (int)width;
  file->height = (int)height;
  if (!WebPDemuxGetFrame(file->demuxer, 1, &file->frame)) return fail(message, message_size, "no frame");
  return true;
}

static void close_file(webp_file *file) {
  WebPDemuxReleaseIterator(&file->frame);
  WebPDemuxDelete(file->demuxer);
}

/// Bytes of the decoder for a frame.
///
/// Lossy frames are decoded in rows of macroblocks. Lossless frames and alpha planes, which are decoded although the
/// result has none, need all pixels: four bytes each, those of the transforms, and one of an alpha plane.
static size_t working_bytes(const WebPIterator *frame, const WebPBitstreamFeatures *features) {
  size_t width = (size_t)features->width + 16;
  size_t height = (size_t)features->height + 16;
  bool has_all_pixels = features->format == 2 || frame->has_alpha || features->has_alpha;
  return (1 << 16) + width * 256 + (has_all_pixels ? width * height * 5 : 0);
}

bool pdrop_webp_read_header(const unsigned char *bytes, size_t count, pdrop_image_header *header, char *message,
                            size_t message_size) {
  webp_file file;
  bool result = open_file(bytes, count, &file, message, message_size);
  if (result) {
    WebPBitstreamFeatures features;
    VP8StatusCode status = WebPGetFeatures(file.frame.fragment.bytes, file.frame.fragment.size, &features);
    result = status == VP8_STATUS_OK || fail(message, message_size, text_of(status));
    *header = (pdrop_image_header){.width = file.width, .height = file.height};
    if (result) header->working_bytes = working_bytes(&file.frame, &features);
  }
  close_file(&file);
  return result;
}

/// Decodes the first frame to its place on the canvas.
static bool decode_frame(const webp_file *file, unsigned char *rgb, char *message, size_t message_size) {
  const WebPIterator *frame = &file->frame;
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return fail(message, message_size, "libwebp differs from its headers");
  VP8StatusCode status = WebPGetFeatures(frame->fragment.bytes, frame->fragment.size, &config.input);
  if (status != VP8_STATUS_OK) return fail(message, message_size, text_of(status));
  long long left = frame->x_offset;
  long long top = frame->y_offset;
  int width = config.input.width;
  int height = config.input.height;
  if (left < 0 || top < 0 || left + width > file->width || top + height > file->height) {
    return fail(message, message_size, "the first frame is outside the canvas");
  }
  size_t stride = (size_t)file->width * 3;
  size_t start = (size_t)top * stride + (size_t)left * 3;
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = rgb + start;
  config.output.u.RGBA.stride = (int)stride;
  config.output.u.RGBA.size = (size_t)file->height * stride - start;
  status = WebPDecode(frame->fragment.bytes, frame->fragment.size, &config);
  WebPFreeDecBuffer(&config.output);
  return status == VP8_STATUS_OK || fail(message, message_size, text_of(status));
}

bool pdrop_webp_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                       char *message, size_t message_size) {
  webp_file file;
  bool result = open_file(bytes, count, &file, message, message_size);
  if (result && (file.width != width || file.height != height)) {
    result = fail(message, message_size, "the size differs from the header");
  }
  if (result) result = decode_frame(&file, rgb, message, message_size);
  close_file(&file);
  return result;
}
