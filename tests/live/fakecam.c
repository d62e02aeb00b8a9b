// A V4L2 camera for LD_PRELOAD: FAKECAM names its device, which gives grey YUYV pictures with their number in a row of blocks on
// top (as marked.py reads it), and is gone (ENODEV) after FAKECAM_UNPLUG of them; opened again it is there again.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int device = -1, width = 320, height = 240, fps = 30, queue[64], head, tail;
static unsigned sequence;
static unsigned char *memory;
static struct timespec started;
static size_t picture_bytes(void) { return (size_t)width * height * 2; }
static size_t slot_bytes(void) { return (picture_bytes() + 4095) & ~4095UL; }

static int is_ours(const char *path) {
    const char *name = getenv("FAKECAM");
    return name && path && !strcmp(path, name);
}
static int plug_in(void) {
    device = memfd_create("fakecam", 0);
    sequence = 0;
    head = tail = 0;
    if (write(device, "x", 1) != 1) return -1;  // so that poll() finds it readable
    return device;
}
static int opened(const char *path, int flags, mode_t mode) {
    return is_ours(path) ? plug_in() : syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, int); va_end(rest);
    return opened(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, int); va_end(rest);
    return opened(path, flags | O_LARGEFILE, mode);
}

static void draw(unsigned char *picture) {
    unsigned number = sequence & 4095, parity = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            picture[(y * width + x) * 2] = 80 + ((x * 7 + y * 13) % 60);
            picture[(y * width + x) * 2 + 1] = 128;
        }
    for (int bit = 0; bit < 13; bit++) {
        int set = bit < 12 ? number >> (11 - bit) & 1 : parity;
        parity ^= set;
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 16; x++) picture[(y * width + bit * 16 + x) * 2] = set ? 235 : 16;
    }
}
static int next_picture(struct v4l2_buffer *buffer) {
    const char *last = getenv("FAKECAM_UNPLUG");
    if (last && sequence >= (unsigned)atoi(last)) return errno = ENODEV, -1;
    if (head == tail) return errno = EAGAIN, -1;
    struct timespec due = started;
    long long ns = due.tv_nsec + (long long)sequence * 1000000000LL / fps;
    due.tv_sec += ns / 1000000000;
    due.tv_nsec = ns % 1000000000;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, 0);
    buffer->index = queue[head++ & 63];
    draw(memory + buffer->index * slot_bytes());
    buffer->bytesused = picture_bytes();
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    buffer->sequence = sequence++;
    buffer->timestamp.tv_sec = due.tv_sec;
    buffer->timestamp.tv_usec = due.tv_nsec / 1000;
    buffer->field = V4L2_FIELD_NONE;
    return 0;
}
static int answer(unsigned long request, void *argument) {
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *about = argument;
        memset(about, 0, sizeof *about);
        strcpy((char *)about->driver, "uvcvideo");
        strcpy((char *)about->card, "FakeCam");
        about->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        about->capabilities = about->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_ENUMINPUT: {
        struct v4l2_input *input = argument;
        if (input->index) return errno = EINVAL, -1;
        memset(input, 0, sizeof *input);
        input->type = V4L2_INPUT_TYPE_CAMERA;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = argument;
        if (format->index) return errno = EINVAL, -1;
        format->pixelformat = V4L2_PIX_FMT_YUYV;
        return 0;
    }
    case VIDIOC_G_FMT: case VIDIOC_S_FMT: case VIDIOC_TRY_FMT: {
        struct v4l2_format *format = argument;
        format->fmt.pix.width = width;
        format->fmt.pix.height = height;
        format->fmt.pix.pixelformat = V4L2_PIX_FMT_YUYV;
        format->fmt.pix.field = V4L2_FIELD_NONE;
        format->fmt.pix.bytesperline = width * 2;
        format->fmt.pix.sizeimage = picture_bytes();
        return 0;
    }
    case VIDIOC_G_PARM: case VIDIOC_S_PARM: {
        struct v4l2_streamparm *rate = argument;
        rate->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        rate->parm.capture.timeperframe.numerator = 1;
        rate->parm.capture.timeperframe.denominator = fps;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *wanted = argument;
        if (wanted->count > 8) wanted->count = 8;
        if (!wanted->count) return 0;
        size_t total = slot_bytes() * wanted->count;
        if (ftruncate(device, total)) return -1;
        memory = mmap(0, total, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *buffer = argument;
        buffer->m.offset = buffer->index * slot_bytes();
        buffer->length = picture_bytes();
        return 0;
    }
    case VIDIOC_QBUF: queue[tail++ & 63] = ((struct v4l2_buffer *)argument)->index; return 0;
    case VIDIOC_STREAMON: clock_gettime(CLOCK_MONOTONIC, &started); return 0;
    case VIDIOC_STREAMOFF: return 0;
    case VIDIOC_DQBUF: return next_picture(argument);
    }
    errno = ENOTTY;
    return -1;
}
int ioctl(int file, unsigned long request, ...) {
    va_list rest; va_start(rest, request); void *argument = va_arg(rest, void *); va_end(rest);
    return file >= 0 && file == device ? answer(request & 0xffffffff, argument)
                                       : syscall(SYS_ioctl, file, request, argument);
}
