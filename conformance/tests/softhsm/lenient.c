/* A module in front of SoftHSM that lets its user do one thing which the standard forbids: LENIENT names it.
   What it takes, it remembers by its handle, and then does with that whatever is asked, with made-up results. Or it counts what is encrypted, by nonces of its own or not, or fails to decrypt;
   or removes an object as if another one had done so in the same moment, at the latest while the object signs, once there is a file NOW;
   or it knows no CKA_WRAP_TEMPLATE;
   or it keeps no label of what it unwraps, or finds nothing by one, or unwraps nothing while there is a file HELD, and says so by another one. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ul;
typedef struct { ul type; void *value; ul length; } attribute;
typedef struct { unsigned char version[2]; void *of[68]; } functions;

typedef struct { unsigned char *nonce; ul nonce_length; } gcm;
enum { CREATE = 20, COPY = 21, DESTROY = 22, GET = 24, SET = 25, FIND_INIT = 26, ENCRYPT_INIT = 29, DECRYPT_INIT = 33, DECRYPT = 34, SIGN_INIT = 42, GENERATE = 58, WRAP = 60, UNWRAP = 61 };
enum { TOKEN = 0x1, LABEL = 0x3, VALUE = 0x11, TRUSTED = 0x86, SENSITIVE = 0x103, DECRYPTS = 0x105, START_DATE = 0x110, MODIFIABLE = 0x170, WITH_TRUSTED = 0x210, WRAP_TEMPLATE = 0x40000211 };
#define MANY 256

static functions *real, ours;
static ul taken[MANY], taken_count;
static int decrypting;
static unsigned char nonces;

static int mode(const char *name) { return !strcmp(getenv("LENIENT"), name); }
static void take(ul object) { if (taken_count < MANY) taken[taken_count++] = object; }
static int is_taken(ul object) {
    for (ul at = 0; at < taken_count; at++) if (taken[at] == object) return 1;
    return 0;
}
static int says(attribute *all, ul count, ul type, unsigned char value) {
    for (ul at = 0; at < count; at++)
        if (all[at].type == type && all[at].length == 1 && *(unsigned char *)all[at].value == value) return 1;
    return 0;
}
/* Without one of them. */
static ul without(attribute *all, ul count, ul type, attribute *into) {
    ul left = 0;
    for (ul at = 0; at < count && left < 64; at++) if (all[at].type != type) into[left++] = all[at];
    return left;
}
static ul give(unsigned char *into, ul *length, ul many) {
    if (into) memset(into, 7, many);
    *length = many;
    return 0;
}

/* SoftHSM copies nothing that cannot be modified. */
static ul stand_in(ul session, ul *object) {
    ul (*make)(ul, attribute *, ul, ul *) = real->of[CREATE];
    ul secret = 4, aes = 0x1f;
    unsigned char no = 0, value[32] = { 0 };
    attribute all[] = { { 0, &secret, sizeof secret }, { 0x100, &aes, sizeof aes }, { TOKEN, &no, 1 }, { VALUE, value, 32 } };
    return make(session, all, 4, object);
}
static ul create(ul session, attribute *all, ul count, ul *object) {
    ul (*next)(ul, attribute *, ul, ul *) = real->of[CREATE];
    attribute some[64];
    if (!mode("create") || !says(all, count, TRUSTED, 1)) return next(session, all, count, object);
    ul done = next(session, some, without(all, count, TRUSTED, some), object);
    if (!done) take(*object);
    return done;
}
static int has(attribute *all, ul count, ul type) {
    for (ul at = 0; at < count; at++) if (all[at].type == type) return 1;
    return 0;
}
static ul generate(ul session, void *mechanism, attribute *all, ul count, ul *object) {
    ul (*next)(ul, void *, attribute *, ul, ul *) = real->of[GENERATE];
    attribute some[64];
    if (mode("no template") && has(all, count, WRAP_TEMPLATE)) return 0x12; /* CKR_ATTRIBUTE_TYPE_INVALID */
    if (!mode("generate") || !says(all, count, TRUSTED, 1)) return next(session, mechanism, all, count, object);
    ul done = next(session, mechanism, some, without(all, count, TRUSTED, some), object);
    if (!done) take(*object);
    return done;
}
static ul unwrap(ul session, void *mechanism, ul by, void *bytes, ul length, attribute *all, ul count, ul *object) {
    ul (*next)(ul, void *, ul, void *, ul, attribute *, ul, ul *) = real->of[UNWRAP];
    attribute some[64];
    if (mode("is slow") && !access(getenv("HELD"), F_OK)) {
        fclose(fopen(getenv("UNWRAPS"), "w"));
        while (!access(getenv("HELD"), F_OK)) usleep(1000);
    }
    if (mode("no template") && has(all, count, WRAP_TEMPLATE)) return 0x12;
    if ((mode("copy mark") || mode("set mark")) && says(all, count, DECRYPTS, 1)) {
        ul done = stand_in(session, object);
        if (!done) take(*object);
        return done;
    }
    if (mode("keeps no label"))
        return next(session, mechanism, by, bytes, length, some, without(all, count, LABEL, some), object);
    if (!mode("unwrap") || !says(all, count, TRUSTED, 1))
        return next(session, mechanism, by, bytes, length, all, count, object);
    ul done = next(session, mechanism, by, bytes, length, some, without(all, count, TRUSTED, some), object);
    if (!done) take(*object);
    return done;
}
static ul find_init(ul session, attribute *all, ul count) {
    ul (*next)(ul, attribute *, ul) = real->of[FIND_INIT];
    attribute some[64];
    ul left = without(all, count, LABEL, some);
    if (!mode("finds no label") || left == count) return next(session, all, count);
    some[left] = (attribute){ LABEL, "none", 4 };
    return next(session, some, left + 1);
}
static ul is_of_token(ul session, ul object) {
    ul (*get)(ul, ul, attribute *, ul) = real->of[GET];
    unsigned char yes = 0;
    attribute token = { TOKEN, &yes, 1 };
    return !get(session, object, &token, 1) && yes;
}
static ul copy(ul session, ul from, attribute *all, ul count, ul *object) {
    ul (*next)(ul, ul, attribute *, ul, ul *) = real->of[COPY];
    attribute some[64];
    int of_kek = is_of_token(session, from);
    ul type = mode("copy trusted") && says(all, count, TRUSTED, 1) ? TRUSTED
        : mode(of_kek ? "copy bare kek" : "copy bare") && says(all, count, WITH_TRUSTED, 0) ? WITH_TRUSTED
        : mode(of_kek ? "copy clear kek" : "copy clear") && says(all, count, SENSITIVE, 0) ? SENSITIVE
        : mode("copy decrypts") && says(all, count, DECRYPTS, 1) ? DECRYPTS
        : mode("copy mark") && of_kek && has(all, count, START_DATE) ? START_DATE
        : mode("copy open") && says(all, count, MODIFIABLE, 1) ? MODIFIABLE : 0;
    if (!type) return next(session, from, all, count, object);
    ul done = of_kek ? stand_in(session, object) : next(session, from, some, without(all, count, type, some), object);
    if (!done) take(*object);
    return done;
}
static ul get(ul session, ul object, attribute *all, ul count) {
    ul (*next)(ul, ul, attribute *, ul) = real->of[GET];
    if (is_taken(object) && count == 1 && all->type == VALUE && (mode("copy clear") || mode("copy clear kek")))
        return give(all->value, &all->length, 32);
    ul done = next(session, object, all, count);
    for (ul at = 0; mode("kek attribute") && is_of_token(session, object) && at < count; at++)
        if (all[at].type == WITH_TRUSTED && all[at].value) *(unsigned char *)all[at].value = 0;
    return done;
}
static ul set(ul session, ul object, attribute *all, ul count) {
    ul (*next)(ul, ul, attribute *, ul) = real->of[SET];
    if (mode("copy open") && is_taken(object)) return 0;
    if (mode("set mark") && is_of_token(session, object) && has(all, count, START_DATE)) return 0;
    if (mode("set kek") && is_of_token(session, object) && says(all, count, WITH_TRUSTED, 0)) return 0;
    return next(session, object, all, count);
}
static ul wrap(ul session, void *mechanism, ul by, ul key, unsigned char *into, ul *length) {
    ul (*next)(ul, void *, ul, ul, unsigned char *, ul *) = real->of[WRAP];
    if ((is_taken(by) && !is_of_token(session, key)) || is_taken(key)) return give(into, length, 40);
    if (mode("set mark") && key == by) return give(into, length, 40);
    if (mode("wrap kek") && is_of_token(session, key) && key != by) return give(into, length, 40);
    return next(session, mechanism, by, key, into, length);
}
static ul destroy(ul session, ul object) {
    ul (*next)(ul, ul) = real->of[DESTROY];
    int of_token = is_of_token(session, object);
    ul done = next(session, object);
    return mode("is late") && of_token ? 6 : done; /* CKR_FUNCTION_FAILED */
}
static ul sign_init(ul session, void *mechanism, ul key) {
    ul (*next)(ul, void *, ul) = real->of[SIGN_INIT];
    ul (*remove)(ul, ul) = real->of[DESTROY];
    if (mode("is later") && !access(getenv("NOW"), F_OK)) {
        remove(session, key);
        return 0x60; /* CKR_KEY_HANDLE_INVALID */
    }
    return next(session, mechanism, key);
}
/* Each one is a byte of a file. */
static ul encrypt_init(ul session, void *mechanism, ul key) {
    ul (*next)(ul, void *, ul) = real->of[ENCRYPT_INIT];
    int own = mode("own nonces") && *(ul *)mechanism == 0x1087;
    FILE *count = mode("counts") || own ? fopen(getenv("SEALED"), "a") : 0;
    if (count) { fputc('.', count); fclose(count); }
    gcm *parameters = own ? ((void **)mechanism)[1] : 0;
    if (own) memset(parameters->nonce, ++nonces, parameters->nonce_length);
    return next(session, mechanism, key);
}
static ul decrypt_init(ul session, void *mechanism, ul key) {
    ul (*next)(ul, void *, ul) = real->of[DECRYPT_INIT];
    if (mode("fails")) return 0x32; /* CKR_DEVICE_REMOVED */
    decrypting = is_taken(key) && (mode("copy decrypts") || mode("copy open") || mode("copy mark") || mode("set mark"));
    return decrypting ? 0 : next(session, mechanism, key);
}
static ul decrypt(ul session, void *bytes, ul many, unsigned char *into, ul *length) {
    ul (*next)(ul, void *, ul, unsigned char *, ul *) = real->of[DECRYPT];
    return decrypting ? give(into, length, 32) : next(session, bytes, many, into, length);
}

ul C_GetFunctionList(functions **list) {
    if (!real) {
        void *module = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW);
        ul (*its)(functions **) = module ? dlsym(module, "C_GetFunctionList") : 0;
        if (!its || its(&real)) return 5;
        ours = *real;
        ours.of[CREATE] = create; ours.of[COPY] = copy; ours.of[GET] = get; ours.of[SET] = set;
        ours.of[ENCRYPT_INIT] = encrypt_init; ours.of[DECRYPT_INIT] = decrypt_init; ours.of[DECRYPT] = decrypt;
        ours.of[FIND_INIT] = find_init; ours.of[DESTROY] = destroy; ours.of[SIGN_INIT] = sign_init; ours.of[GENERATE] = generate; ours.of[WRAP] = wrap; ours.of[UNWRAP] = unwrap;
        /* So that nobody comes past it by the list that names the real one. */
        ours.of[3] = C_GetFunctionList;
    }
    *list = &ours;
    return 0;
}
