"""A story in the making: its people and things, its sentences, and the questions it can answer."""

from words import (ADJECTIVES, ANIMALS, BOYS, COLOURS, GIRLS, KIN, PET_NAMES, PLACES, PRONOUNS, THINGS, TRAITS, a,
                   cap, invented_name)

TIMES = ["morning", "afternoon", "day"]
WEATHER = ["sunny", "warm", "windy", "bright", "cool", "quiet"]


class Story:
    def __init__(self, rng):
        """Draws a hero (name, pronoun, and "boy", "girl" or an animal), a thing (colour, noun), a place and helpers."""
        self.rng = rng
        self.sentences = []
        self.questions = []
        self.hero = pick_hero(rng)
        self.colour, self.noun = rng.choice(COLOURS), rng.choice(THINGS)
        self.place = rng.choice(list(PLACES))
        self.away = False  # whether the story ends far from home
        self.name, pronoun, self.kind = self.hero
        he, him, his = PRONOUNS[pronoun]
        prep, self.sights, spots = PLACES[self.place]
        self.slots = {
            "N": self.name, "he": he, "him": him, "his": his, "He": cap(he), "His": cap(his), "kind": self.kind,
            "P": f"the {self.place}", "inP": f"{prep} the {self.place}", "toP": f"to the {self.place}",
            "spot": rng.choice(spots), "w": rng.choice(WEATHER), "t": rng.choice(TIMES),
        }
        self.thing(self.colour, self.noun)
        self._pick_helper(pronoun)

    def _pick_helper(self, pronoun):
        """Friend: a named child or animal, mostly of the other pronoun; elder: somebody of the hero's family."""
        rng, s = self.rng, self.slots
        other = {"he": "she", "she": "he"}[pronoun] if rng.random() < 0.8 else pronoun
        while True:
            if rng.random() < 0.6:
                name, kind = rng.choice(BOYS if other == "he" else GIRLS), {"he": "boy", "she": "girl"}[other]
                intro = f"{s['his']} friend {name}"
            else:
                name, kind = rng.choice(PET_NAMES), rng.choice(list(ANIMALS))
                intro = f"{rng.choice(['a friendly', 'a kind', 'a little'])} {kind} named {name}"
            if name != self.name and kind != self.kind or name != self.name and kind in ("boy", "girl"):
                break
        fhe, fhim, fhis = PRONOUNS[other]
        s.update(F=name, fintro=intro, FIntro=cap(intro), fhe=fhe, fhim=fhim, fhis=fhis, FHe=cap(fhe))
        self.friend_kind = kind
        elder, ehe = rng.choice(KIN)
        s.update(elder=f"{s['his']} {elder}", Elder=f"{cap(s['his'])} {elder}", nElder=f"{self.name}'s {elder}",
                 NElder=f"{self.name}'s {elder}", ehe=ehe, EHe=cap(ehe), ehis=PRONOUNS[ehe][2])

    def thing(self, colour, noun):
        self.colour, self.noun = colour, noun
        self.slots.update(O=f"{colour} {noun}", o=noun, c=colour, aO=a(f"{colour} {noun}"))

    def move(self, *places):
        """Moves the story to one of these places unless it already plays in one of them."""
        if self.place not in places:
            self.place = self.rng.choice(places)
            prep, self.sights, spots = PLACES[self.place]
            self.slots.update(P=f"the {self.place}", inP=f"{prep} the {self.place}", toP=f"to the {self.place}",
                              spot=self.rng.choice(spots))

    def say(self, *variants):
        self.sentences.append(self.rng.choice(variants).format_map(self.slots))

    def maybe(self, chance, *variants):
        if self.rng.random() < chance:
            self.say(*variants)

    def set(self, slot, choices):
        self.slots[slot] = self.rng.choice(choices)

    def ask(self, kind, questions, answer):
        fill = [q.format_map(self.slots) for q in questions]
        self.questions.append((kind, fill, cap(answer.format_map(self.slots))))

    def text(self):
        return " ".join(self.sentences)

    # --- beats that many plots share ---

    def open(self):
        """Who the hero is. Half of the stories begin with the old formula."""
        rng, s = self.rng, self.slots
        adj = rng.choice(ADJECTIVES)
        if self.kind in ANIMALS:
            adjs, home = ANIMALS[self.kind]
            adj = rng.choice(adjs)
            who = a(f"{adj} {self.kind}")
            s["who"] = who
            self.say(f"Once upon a time, there was {who} named {{N}}.",
                     f"Once upon a time, {who} named {{N}} lived {home}.",
                     f"Once upon a time, {who} lived {home}. {{His}} name was {{N}}.",
                     f"There was once {who} named {{N}} who lived {home}.",
                     f"{{N}} was {who}. {{He}} lived {home}.",
                     f"{cap(home)} lived {who} named {{N}}.")
            self.ask("animal", ["What kind of animal was {N}?", "What animal was {N}?"], f"{{N}} was {a(self.kind)}.")
        else:
            who = a(f"{adj} {self.kind}")
            s["who"] = who
            self.say(f"Once upon a time, there was {who} named {{N}}.",
                     f"Once upon a time, there was {who}. {{His}} name was {{N}}.",
                     f"Once upon a time, {who} named {{N}} lived in a small house.",
                     f"Once, there was {who} named {{N}}.",
                     f"{{N}} was {who}.",
                     f"There was once {who} named {{N}}.")
        if rng.random() < 0.4:
            trait = rng.choice(TRAITS)
            self.say(f"{{N}} {trait}.", f"{{He}} {trait}.")
            verb, what = trait.split(" ", 1)
            base = {"loved": "love", "liked": "like"}[verb]
            self.ask("trait", [f"What did {{N}} {base} to do?"], f"{{N}} {verb} {what}.")
        self.ask("hero", ["Who is the story about?", "Who is this story about?", "What is the name of the main character?"],
                 "The story is about {N}.")

    def go(self, chance_of_sights=0.6):
        """The hero goes to the place."""
        self.away = True
        self.say("One {w} {t}, {N} went {toP}.", "One {t}, {he} went {toP}.", "On a {w} {t}, {N} walked {toP}.",
                 "One {w} {t}, {he} walked {toP}.")
        self.where()
        if self.rng.random() < chance_of_sights:
            self.sentences.append(self.rng.choice(self.sights))

    def where(self):
        self.ask("where", ["Where did {N} go?", "Where did {N} go that day?"], "{N} went {toP}.")

    def colour_question(self):
        self.ask("colour", ["What colour was the {o}?", "What color was the {o}?", "What was the colour of the {o}?"],
                 "The {o} was {c}.")

    def feel(self, feeling, why=None):
        """Asks how the hero felt at the end, and why the hero was sad before."""
        self.ask("end", ["How did {N} feel at the end?", "How did {N} feel in the end?"], f"{{N}} felt {feeling}.")

    def helped(self, who="{F}"):
        self.ask("helper", ["Who helped {N}?", "Who was it that helped {N}?"], f"{who} helped {{N}}.")

    def close(self, *own):
        far = ["{N} smiled all the way home.", "When the sun went down, {N} went home."] if self.away else []
        self.maybe(0.85, *own, "That night, {N} slept very well.", "It was a very good day.", "{N} never forgot that day.",
                   "It was a day to remember.", *far)


def pick_hero(rng):
    pronoun = rng.choice(("he", "she"))
    roll = rng.random()
    if roll < 0.62:
        return rng.choice(BOYS if pronoun == "he" else GIRLS), pronoun, {"he": "boy", "she": "girl"}[pronoun]
    if roll < 0.70:
        return invented_name(rng), pronoun, {"he": "boy", "she": "girl"}[pronoun]
    return rng.choice(PET_NAMES), pronoun, rng.choice(list(ANIMALS))
